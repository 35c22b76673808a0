"""`blobsight estimate`.

command.py        the command
estimating.py     the estimate itself, also for commands that have to name a price first
measuring.py      the sizes of images, from the first bytes of their files
image_tokens.py   how many tokens an image costs, by the published rules
text_tokens.py    how many a text is, about
experience.py     what the results so far tell about the next ones
prices.py         what models cost
ranges.py         numbers that are known only from … to
"""
