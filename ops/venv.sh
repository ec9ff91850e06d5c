#!/bin/sh
# Makes a virtual environment with a Python that this package supports: ops/venv.sh FOLDER [PYTHON]
set -eu
folder=$1
python=${2:-}
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

if "$folder/bin/python" -c "$supported" 2> /dev/null; then
	# Made by another tool, or left half-made by an interrupted run: pip is all that may lack.
	"$folder/bin/python" -c "import pip" 2> /dev/null || "$folder/bin/python" -m ensurepip > /dev/null
	exit
fi
rm -rf "$folder" # of another Python, or left without one by an interrupted run
for candidate in "$python" python3.11 python3.12 python3.13 python3; do
	# It is run, since a version manager's command may be there and do nothing.
	if "$candidate" -c "$supported" 2> /dev/null; then
		"$candidate" -m venv "$folder" || { rm -rf "$folder"; exit 1; }
		exit
	fi
	if [ -n "$python" ]; then
		found="$("$python" --version 2>&1)" || found="not there"
		echo "Python 3.11, 3.12 or 3.13 is needed, but $python is $found." >&2
		exit 1
	fi
done
echo "Python 3.11, 3.12 or 3.13 is needed; if you have one, name it: make PYTHON=/path/to/python" >&2
exit 1
