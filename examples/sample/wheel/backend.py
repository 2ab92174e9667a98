"""Builds the wheel of this directory with Python alone (PEP 517)."""

import base64
import email
import hashlib
import os
import re
import zipfile

OWN = ("PKG-INFO", "backend.py", "pyproject.toml")


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open("PKG-INFO", "rb") as f:
        metadata = f.read()
    about = email.message_from_bytes(metadata)
    stem = re.sub("[-_.]+", "_", about["Name"]).lower() + "-" + about["Version"]
    files = {}
    for top, dirs, names in os.walk("."):
        dirs.sort()
        for name in sorted(names):
            path = os.path.relpath(os.path.join(top, name), ".").replace(os.sep, "/")
            if path not in OWN:
                with open(path, "rb") as f:
                    files[path] = f.read()
    info = stem + ".dist-info/"
    files[info + "METADATA"] = metadata
    files[info + "WHEEL"] = b"Wheel-Version: 1.0\nGenerator: mirror-sample\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = ""
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\n" % (path, digest, len(data))
    files[info + "RECORD"] = (record + info + "RECORD,,\n").encode()

    wheel = stem + "-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w") as z:
        for path, data in files.items():
            z.writestr(zipfile.ZipInfo(path), data)
    return wheel
