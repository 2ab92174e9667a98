#!/bin/sh
test "$1" = --config || exit 2
test "$3" = mirror || exit 2
test -e "$2" || { echo example >"$2"; echo "WARNING: Config file missing" >&2; exit 1; }
dir=$(sed -n '/^\[mirror\]/,$s/^directory = //p' "$2")
now() { test "$mute" || echo "2026-01-01 00:00:00,000 $*" >&2; }
rewrite() { cat >"$1.tmp" && mv "$1.tmp" "$1"; }
. "$(dirname "$2")/do"
mkdir -p "$dir/web/simple" "$dir/web/packages" "$dir/web/json" "$dir/web/local-stats/days"
: >"$dir/.lock"
printf 5 >"$dir/generation"
now "INFO: Syncing with https://pypi.example.org/. (mirror.py:50)"
began=$(date -u +%Y%m%dT%H:%M:%S)
test "$away" && { now "ERROR: Cannot connect to host pypi.example.org:443 (master.py:90)"; exit 1; }
now "INFO: $(echo $packages | wc -w) packages to sync. (mirror.py:80)"
failed=
left="$packages"
for p in $packages; do
	left=${left#$p}; left=${left# }
	case " $failures " in
	*" $p "*)
		now "ERROR: Error syncing package: $p@$serial (mirror.py:90)"
		failed="$failed$p $serial
"
		test "$stop" && { printf '%s\n%s' $serial "$failed" >"$dir/todo"; now "ERROR: Exiting early after error. (mirror.py:99)"; exit 1; };;
	*)
		now "INFO: Storing index page(s): $p - in $dir/web/simple/$p (simple.py:10)"
		mkdir -p "$dir/web/simple/$p"
		echo "<a href=x>x</a><!--SERIAL $serial-->" | rewrite "$dir/web/simple/$p/index.html"
		echo "{}" | rewrite "$dir/web/json/$p"
		{ echo $serial; for q in $left; do echo "$q $serial"; done; } | rewrite "$dir/todo"
		test "$die" && kill -9 $$;;
	esac
done
test "$serial" = "$(cat "$dir/status" 2>/dev/null)" || (ls "$dir/web/simple"; echo "<!--SERIAL $serial-->") | rewrite "$dir/web/simple/index.html"
if test "$failed"; then
	printf '%s\n%s' $serial "$failed" >"$dir/todo"
else
	rm -f "$dir/todo"
	now "INFO: New mirror serial: $serial (mirror.py:110)"
	echo $began | rewrite "$dir/web/last-modified"
	printf %s $serial >"$dir/status"
fi
