"""Pictures for people: thumbnails, and whole images as a browser can show them.

pictures.py     reads images, has them decoded, and keeps the thumbnails that were made last
decoder.py      a process that decodes: images are hostile until proven otherwise
wire.py         what the two say to each other
"""
