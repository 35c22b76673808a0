"""`blobsight results`.

command.py      the command: one result, or all of a prefix, downloaded and written in order
export.py       JSON Lines, CSV, Parquet: one file, written completely or not at all
formulas.py     text that no spreadsheet takes for a formula, and the way back
flattening.py   a result as a row of a table
"""
