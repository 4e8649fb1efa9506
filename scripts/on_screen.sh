#!/bin/sh
# on_screen.sh COMMAND...: run a command that opens windows, on a virtual screen where there is no real one.
# What is missing for that on Debian and Ubuntu is installed where this is allowed; else it is said, and the command runs.
qt="libgl1-mesa-dri libegl1 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0 libxkbcommon-x11-0 libdbus-1-3"
packages="$qt libfontconfig1 libglib2.0-0"
[ -n "${DISPLAY-}${WAYLAND_DISPLAY-}" ] || packages="xvfb xauth $packages"

missing() { # asked of apt, which knows what stands in for a renamed package
    apt-get install --simulate --no-upgrade --no-install-recommends $packages 2>&1 | grep -qE '^(Inst|E:)'
}
install() {
    echo "Installing what a window needs:" $packages
    $1 apt-get update -qq && $1 apt-get install -y -qq --no-install-recommends $packages
}

if command -v apt-get >/dev/null && missing; then
    if [ "$(id -u)" -eq 0 ]; then install ""; elif sudo -n true 2>/dev/null; then install "sudo -n"; fi </dev/null
    if missing; then echo "What opens a window may not run here; it needs: sudo apt-get install" $packages; fi
fi
if [ -z "${DISPLAY-}${WAYLAND_DISPLAY-}" ] && command -v xvfb-run >/dev/null && command -v xauth >/dev/null; then
    exec xvfb-run --auto-servernum --server-args="-screen 0 1280x1024x24" "$@"
fi
exec "$@"
