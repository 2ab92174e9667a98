# Distribution, version and architecture, as the wheels' directories are named.
if [ -z "${AFS_SLUG:-}" ]; then
	AFS_SLUG=$(
		ID=linux VERSION_ID=
		if [ -r /etc/os-release ]; then . /etc/os-release; fi
		if [ "$ID" != ubuntu ]; then VERSION_ID=${VERSION_ID%%.*}; fi
		echo "$ID-$VERSION_ID-$(uname -m)" | tr '[:upper:]' '[:lower:]'
	)
fi
export AFS_SLUG
