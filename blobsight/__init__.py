"""The command line for people and for bulk: `blobsight --help`."""
