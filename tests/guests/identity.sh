#!/bin/sh
# A guest that says who it is at each boot. Its first boot configures it, and what that did is found at
# each later one, on this disk and on what was made of it.
[ -e /etc/configured ] || { hostname >/etc/configured && sync; }
uuid=$(cat /sys/class/dmi/id/product_uuid)
mac=$(cat /sys/class/net/eth0/address)
echo "I am $(hostname) $uuid $mac, configured as $(cat /etc/configured)." >/dev/ttyS0
