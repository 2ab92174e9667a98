# Distribution, version and architecture, as the wheels' directories are named: the
# version is major and minor number where those make a release, else the major one.
if [ -z "${AFS_SLUG:-}" ]; then
	AFS_SLUG=$(
		ID=linux VERSION_ID= ID_LIKE=
		if [ -r /etc/os-release ]; then . /etc/os-release; fi
		case "$ID $ID_LIKE " in
		"ubuntu "* | "alpine "* | *suse*" "* | *" ubuntu "*) VERSION_ID=$(echo "$VERSION_ID" | cut -d. -f1,2) ;;
		*) VERSION_ID=${VERSION_ID%%.*} ;;
		esac
		echo "$ID-$VERSION_ID-$(uname -m)" | tr '[:upper:]' '[:lower:]'
	)
fi
export AFS_SLUG
