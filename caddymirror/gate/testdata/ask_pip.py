"""Reads addresses of indexes, one a line; has pip download the project foo from each
("find URL": only look for it), and prints a line: ok, or what pip said."""
import contextlib, io, logging, os, shutil, sys, tempfile

os.environ["PIP_CONFIG_FILE"] = os.devnull
for name in [n for n in os.environ if n.startswith("PIP_") and n != "PIP_CONFIG_FILE" or n.lower().endswith("_proxy")]:
    del os.environ[name]
import pip
from pip._internal.cli.main import main
from pip._internal.network import session

agent = session.user_agent()
session.user_agent = lambda: agent  # which asks rustc and others each time

print("pip", pip.__version__, "of Python", sys.version.split()[0], flush=True)
for line in sys.stdin:
    url = line.split()[-1]
    home = tempfile.mkdtemp()
    common = ["--isolated", "--no-cache-dir", "--disable-pip-version-check", "--retries", "0", "--timeout", "5", "--index-url", url]
    if line.startswith("find "):
        args = ["index", "versions", "foo"]
    else:
        args = ["download", "--no-deps", "-d", home, "foo"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main(args + common)
        except BaseException as e:
            code = repr(e)
    if code == 0 and args[0] == "download" and len(os.listdir(home)) != 1:
        code = "nothing downloaded"
    shutil.rmtree(home)
    print("ok" if code == 0 else repr(str(code) + " " + out.getvalue()[-400:]), flush=True)
