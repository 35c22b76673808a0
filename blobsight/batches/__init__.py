"""`blobsight batches`.

command.py   the commands
lane.py      what waits to be sent, and the batches, as the app notes them
words.py     both in words
"""
