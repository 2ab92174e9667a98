"""Reads addresses of repositories, one a line; has dnf download what each has, from an
empty cache, and prints a line: ok, or what dnf said."""
import sys, shutil, tempfile, dnf, os

print("dnf", dnf.const.VERSION, flush=True)
for line in sys.stdin:
    url = line.strip()
    home = tempfile.mkdtemp()
    base = dnf.Base()
    conf = base.conf
    conf.installroot = home + "/root"
    conf.cachedir = home + "/cache"
    conf.logdir = home
    conf.persistdir = home + "/persist"
    conf.reposdir = conf.varsdir = [home + "/none"]
    conf.releasever = "1"
    conf.substitutions["releasever"] = "1"
    conf.gpgcheck = False
    conf.plugins = False
    conf.keepcache = True
    try:
        repo = base.repos.add_new_repo("t", conf, baseurl=[url], skip_if_unavailable=False, retries=1, timeout=5)
        base.fill_sack(load_system_repo=False)
        pkgs = list(base.sack.query().available())
        if not pkgs:
            raise Exception("no packages")
        base.download_packages(pkgs)
        for p in pkgs:
            if not os.path.exists(p.localPkg()):
                raise Exception("not downloaded: " + p.localPkg())
        print("ok", flush=True)
    except Exception as e:
        print(repr(str(e)), flush=True)
    base.close()
    shutil.rmtree(home)
