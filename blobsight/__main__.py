"""`python -m blobsight`."""

from blobsight.cli import main

main()
