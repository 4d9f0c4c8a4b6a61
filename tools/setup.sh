#!/bin/sh
# setup.sh - installs what TINT's build and tests need and is not there.
#
# Says nothing when nothing is missing. Without apt it only names the packages.

missing=
need() { # need PACKAGE COMMAND...: all commands, or the package is missing
    package=$1
    shift
    for command; do
        command -v "$command" >/dev/null 2>&1 || {
            missing="$missing $package"
            return
        }
    done
}
need_file() { # need_file PACKAGE PATH...: one of the paths
    package=$1
    shift
    for path; do
        [ -e "$path" ] && return
    done
    missing="$missing $package"
}
can_test() {
    for python in python3 /usr/bin/python3; do
        "$python" -c 'import pytest, xdist' 2>/dev/null && return
    done
    return 1
}

case $(uname -m) in
x86_64) ;;
*) need gcc-x86-64-linux-gnu x86_64-linux-gnu-gcc ;;
esac
need gcc gcc    # here also for the host's tests, and the plugin of QEMU
need make make
need nasm nasm
need binutils ld nm addr2line readelf
need qemu-system-x86 qemu-system-x86_64
need grub-common grub-mkrescue
need_file grub-pc-bin /usr/lib/grub/i386-pc
need xorriso xorriso
need mtools mformat mcopy
PATH=$PATH:/usr/sbin:/sbin need dosfstools mkfs.fat
need gdb gdb
need clang clang
need clang-format clang-format
need cloc cloc
# For the tests of the page that `make trace` draws.
command -v chromium-browser >/dev/null 2>&1 ||
    command -v google-chrome >/dev/null 2>&1 || need chromium chromium
need_file libc6-dev /usr/include/stdio.h
need_file libcmocka-dev /usr/include/cmocka.h /usr/local/include/cmocka.h
need python3 python3
can_test || missing="$missing python3-pytest python3-pytest-xdist"

[ -n "$missing" ] || exit 0
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: no apt-get here; please install what Debian calls:" >&2
    echo "   $missing" >&2
    exit 1
fi
if [ -n "$as_root" ] && ! command -v sudo >/dev/null 2>&1; then
    echo "setup: please run as root: apt-get install$missing" >&2
    exit 1
fi
echo "setup: installing$missing"
# shellcheck disable=SC2086    # a list of words, and sudo or nothing
{
    $as_root apt-get -q update &&
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -q -y install --no-install-recommends $missing
} || {
    echo "setup: apt-get failed; missing are:$missing" >&2
    exit 1
}
