"""`blobsight estimate`.

command.py        the command
estimating.py     the estimate itself, also for other commands that show a price first
lanes.py          the same images by each service tier, with the time that they take
measuring.py      the pixel sizes of images, from the first bytes of their files
image_tokens.py   the tokens of an image, by the published rules
text_tokens.py    the tokens of a text, roughly
experience.py     costs learned from the results so far
prices.py         the prices of models
ranges.py         numbers known only as a range
"""
