"""Pages to send: one HTML file each, which needs no server and loads nothing."""
