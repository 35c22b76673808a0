"""Score answers against expected ones: by field, with how sure the numbers are.

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
