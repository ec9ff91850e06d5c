#!/bin/sh
# Creates a virtual environment with a supported Python: ops/venv.sh FOLDER [PYTHON]
set -eu
folder=$1
python=${2:-}
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

if "$folder/bin/python" -c "$supported" 2> /dev/null; then
	# Created by another tool or by an interrupted run, it may lack pip.
	"$folder/bin/python" -c "import pip" 2> /dev/null || "$folder/bin/python" -m ensurepip > /dev/null
	exit
fi
rm -rf "$folder" # an unsupported Python, or the remains of an interrupted run
for candidate in "$python" python3.11 python3.12 python3.13 python3; do
	# Run it: a version manager's shim may exist without a Python behind it.
	if "$candidate" -c "$supported" 2> /dev/null; then
		"$candidate" -m venv "$folder" || { rm -rf "$folder"; exit 1; }
		exit
	fi
	if [ -n "$python" ]; then
		found="is $("$python" --version 2>&1)" || found="was not found"
		echo "Python 3.11, 3.12 or 3.13 is required, but $python $found." >&2
		exit 1
	fi
done
echo "Python 3.11, 3.12 or 3.13 is required; to use one that is not on PATH: make PYTHON=/path/to/python" >&2
exit 1
