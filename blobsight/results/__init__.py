"""`blobsight results`.

command.py      the command: one result, or all of a prefix, downloaded in order and written as they come
export.py       JSON Lines, CSV, Parquet: one file, there as a whole or not at all
flattening.py   a result as a row of a table
"""
