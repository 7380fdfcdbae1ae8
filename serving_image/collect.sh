#!/bin/sh
# collect.sh VENV ROOT: copy to ROOT the environment VENV and what it needs of the system it was built on, which
# is Python, its standard library, the shared libraries and the certificates. What is not copied cannot be
# exploited: no shell, no package manager, no compiler. Run in a stage of the image's build.
set -eu
venv=$1
root=$2

python=$(command -v python3)
stdlib=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')

mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/etc/ssl/certs" "$root$(dirname "$venv")" "$root/tmp"
chmod 1777 "$root/tmp"
ln -s usr/bin usr/lib usr/lib64 "$root/"

cp -a --parents "$venv" "$root"
mkdir -p "$root$(dirname "$python")"
cp -L "$python" "$root$python"
cp -a --parents "$stdlib" "$root"
cd "$root$stdlib"
rm -rf ensurepip idlelib test lib2to3 turtledemo tkinter pydoc_data site-packages dist-packages config-*
find "$root" -type d -name __pycache__ -prune -exec rm -rf {} +

# Every library that Python, its modules or the environment's load, at the place where the loader looks.
find "$root" -type f \( -name '*.so*' -o -path "$root$python" \) -exec ldd {} + 2> /dev/null |
  grep -o '/[^ ]*\.so[^ )]*' | grep -v "^$root" | sort -u > /tmp/libraries
while read -r library; do
  [ -e "$library" ] || continue
  place=$(readlink -f "$(dirname "$library")")
  mkdir -p "$root$place"
  cp -L "$library" "$root$place/"
done < /tmp/libraries

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'nonroot:x:65532:65532:nonroot:/tmp:/nonexistent' > "$root/etc/passwd"
echo 'nonroot:x:65532:' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
cp -L /etc/os-release "$root/etc/os-release"

# The packages of the system that the copied files are from, beside the list of Python's.
# dpkg knows some of them by their place before /lib became a link into /usr.
{ echo "$python"; cat /tmp/libraries; echo /etc/ssl/certs; } | while read -r file; do
  real=$(readlink -f "$file")
  dpkg-query --search "$real" "${real#/usr}" 2> /dev/null | cut -d: -f1
done | tr ',' '\n' | sort -u | xargs dpkg-query --show --showformat '${Package} ${Version} ${Architecture}\n' \
  > "$root$venv/share/sbom/debian.txt"
