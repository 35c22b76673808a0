"""Names of junk files, which systems and tools leave in people's folders.

Only names that people don't give to images are junk: a container holds what many tools upload, and an image
taken for junk would be lost without a word. So `photo.tmp`, `photo.jpg~`, `thumbnails/photo.jpg` and conflicted copies
are not.
"""

import re

_IMAGE = (  # also of images that no model is sent as they are
    r"\.(?:jpe?g|jpe|jfif|a?png|gif|webp|hei[cf]|hif|avif|tiff?|bmp|dib|jxl|jp2|j2k|psd|svg|ico|pdf"
    r"|dng|cr[23]|nef|arw|raf|rw2|orf)"
)
_FOLDERS = (
    r"@eaDir|#recycle|#snapshot",  # Synology's thumbnails and index, bin, snapshots; immich leaves them out, too
    r"@Recycle|@Recently-Snapshot|\$RECYCLE\.BIN|Network Trash Folder",  # QNAP; github/gitignore Global/Windows, macOS
    r"\.?@__\w+|\.@\w+",  # QNAP's thumbnails, comments, upload cache: https://github.com/simulot/immich-go
    r"\.webaxs\w*|\.webview|\.wdmc",  # thumbnails of Buffalo (seven for each photo) and Western Digital
    r"\.thumbnails?",  # Android's gallery, and Buffalo's
    r"__MACOSX|\.AppleD(?:B|ouble|esktop)",  # github/gitignore Global/macOS; ZIPs made by Finder
    r"\.Spotlight-V100|\.Trashes|\.fseventsd|\.TemporaryItems|\.DocumentRevisions-V100",  # the same: roots of volumes
    r"System Volume Information|lost\+found|\.Trash(?:-\d+)?",  # github/gitignore Global/Windows, e2fsck, freedesktop
    r"\.dropbox\.cache|\.tmp\.drive(?:down|up)load",  # Dropbox, Google Drive
    r"\.stversions|\.stfolder|\.sync",  # Syncthing, Resilio
    r"[^/]+\.lrdata|[^/]+\.photoslibrary/resources/derivatives",  # previews of Lightroom and Apple Photos
    rf"[^/]+{_IMAGE}\.download",  # Safari keeps an unfinished download in a folder
    r"\.git|\.svn|\.hg",
)
_FILES = (
    r"\.DS_Store|\._.*|\.localized|\.LSOverride|\.VolumeIcon\.icns|\.apdisk",  # github/gitignore Global/macOS
    r"\.com\.apple\.timemachine\..*",
    r"Icon[\r\uf00d\u240d]",  # Finder's icon of a folder; SMB and rclone write the carriage return in their own ways
    r"(?:eh)?thumbs(?:_vista)?\.db(?::encryptable)?|(?:thumb|icon)cache_\w+\.db|desktop\.ini",  # Global/Windows
    r"\.directory|\.nfs[0-9a-f]{16,}|\.fuse_hidden[0-9a-f]+|\.goutputstream-\w+",  # Global/Linux
    r"\.?picasa\.ini|ZbThumbnail\.info|\.nomedia|\.thumbdata\w*--?\d+(?:_\d+)?",  # Picasa, Canon, Android
    r"\.(?:trashed|pending)-\d+-.*",  # FileUtils.java of Android's MediaProvider: in the bin, still being written
    r"SYNO(?:FILE|PHOTO|VIDEO|INDEX)_\w+(?:[.:].*)?|.*@Syno(?:EAStream|Resource)",  # Synology, outside of @eaDir
    r"~\$.*|~.*\.tmp|\.~lock\..*#|\.#.*|\.[^/]+\.sw[a-p]",  # Office, LibreOffice, Emacs, vim: Global/MicrosoftOffice, …
    r"\.syncthing\..*|~syncthing~.*",  # syncthing/lib/fs/tempname.go
    r"\.dropbox(?:\.attr|\.device)?|\.stignore|\.sync(?:id|ignore)|.+\.!sync",  # Dropbox, Syncthing, Resilio
    r"\.?csync_journal\.db.*|\.sync_[0-9a-f]+\.db.*|\.(?:owncloud|nextcloud)sync\.log.*",  # nextcloud/desktop
    r".+\.(?:crdownload|opdownload|part|partial|download|filepart|aria2|!ut|!qb)",  # Chrome, Opera, Firefox, …
    r"\.azDownload-.*",  # AzCopy's
)
_FLAGS = re.IGNORECASE | re.DOTALL
_PLACEHOLDERS = (
    ("iCloud", re.compile(r"\.(.+)\.icloud", _FLAGS)),  # eclecticlight.co/2022/02/21/can-you-back-up-icloud-documents
    ("Nextcloud", re.compile(rf"(.+{_IMAGE})\.nextcloud", _FLAGS)),
    ("ownCloud", re.compile(rf"(.+{_IMAGE})\.owncloud", _FLAGS)),  # github.com/owncloud/client/wiki/Virtual-Files
    ("odrive", re.compile(rf"(.+{_IMAGE})\.cloud", _FLAGS)),  # docs.odrive.com/docs/sync-your-odrive
    ("odrive", re.compile(r"(.+)\.cloudf", _FLAGS)),  # a whole folder
)
_IMAGE_NAME = re.compile(rf".+{_IMAGE}", _FLAGS)
_IN_JUNK_FOLDER = re.compile(rf"(?:^|/)(?:{'|'.join(_FOLDERS)})/", _FLAGS)
_JUNK_FILE = re.compile("|".join(_FILES), _FLAGS)


def is_junk(name: str) -> bool:
    """Whether the upload `name`, or the folder `name` with its slash, is junk that systems and tools leave behind."""
    leaf = name.rpartition("/")[2]
    return bool(_IN_JUNK_FOLDER.search(name) or _JUNK_FILE.fullmatch(leaf) or placeholder_of(leaf))


def placeholder_of(leaf: str) -> tuple[str, str] | None:
    """The cloud service, and the name there, of the file or folder that the file `leaf` stands for; None for others."""
    matches = ((service, form.fullmatch(leaf)) for service, form in _PLACEHOLDERS)
    return next(((service, match[1]) for service, match in matches if match), None)


def has_image_ending(name: str) -> bool:
    """Whether `name` ends as names of images do."""
    return _IMAGE_NAME.fullmatch(name.rpartition("/")[2]) is not None
