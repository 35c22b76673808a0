"""`blobsight try`: several questions about the same few images, before many are paid for.

A variant is one question: instructions and options. A trial is a list of variants asked about a list of images.

command.py        the commands
steps.py          from images and variants to answers: look, show the cost, ask, follow
variants.py       variants, from the options of a command
choosing.py       which images: a sample, the same for the same seed
record.py         the record of a trial, and where images and answers are
allowed.py        what the app allows to be asked, from its own note
models.py         the models behind deployments, for prices
cost.py           the cost of what is not answered yet
asking.py         sending images and requests, following, reading answers
measured.py       tokens, money and time of a variant's answers
comparing.py      the answers of all variants about one image, field by field
showing.py        both of these on a terminal, in a pipe, as JSON
promoting.py      a variant as an instruction file
"""
