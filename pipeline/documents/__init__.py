"""Documents: files of several pages, and animations. Which of their pages are looked at, and pages as images.

choice.py        which pages: what people write as the option `pages`
facts.py         pages, as facts
recognise.py     which files are documents
refusals.py      why chosen pages are not looked at
pdf.py           the pages of a PDF, from a process of its own that is trusted with nothing
pdf_process.py   that process: the only module that imports PDFium
cost.py          the memory that drawing a page takes
sandbox.py       what that process may do

Pages of a TIFF and frames are images to `pipeline.images`; a PDF's are drawings, and become images here.
"""
