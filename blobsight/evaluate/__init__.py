"""`blobsight evaluate`: answers against expected ones, by field, with how sure the numbers are.

command     the command, on top of blobsight.trials; its kinds of values are in options
choosing    the images that the expected answers are about
showing     an evaluation on a terminal, in a pipe, as JSON
trial_page  the page, with the pictures from where a trial's images are
expected    expected answers, of a folder or file
readings    what a text says as a number, date, amount
shapes      the fields of the answers, and how each is compared
comparing   an expected answer and a given one, value by value
doubts      expected values that no answer can meet
chance      intervals and tests: what the number of images can tell
scores      all images: fields, variants, differences
report      as JSON, as tables, as a gate
page        one HTML file: its head is made in overview, its images in rows and cards, in the words of words
"""
