"""`blobsight gallery`: images and answers side by side, in a browser on this machine.

command.py      the command
server.py       the server: its routes, and what lives as long as it does
guard.py        who may talk to it: one browser, and its own pages there
looking.py      what the page asks in order to show something
doing.py        what it asks to be done: questions, reruns, uploads, exports; staging.py keeps files on their way
watching.py     keeping the index current: listing while somebody looks
index.py        the listed images, filtered and sorted; columns.py holds their facts
answers.py      the beginnings of the answers that are shown
static/         the page: index.html, gallery.css, js/, and in vendor/ the libraries that it uses

docs/decisions/0009-gallery.md says what was chosen over what.
"""
