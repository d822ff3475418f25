# shellcheck shell=dash
# The kernel's FF-A driver finds each partition of the scenario, and no other.
. /usr/share/tantalum/lib.sh

# The kernel counts itself among the partitions.
found() {
    for device in /sys/bus/arm_ffa/devices/*; do
        [ -e "$device" ] || continue
        sed 's/^arm_ffa:\(.*\):\(.*\)$/\1 \2/' "$device/modalias"
        echo
    done | grep -v '^$' | grep -v '^0000 ' | sort
}

expected() { cut -d ' ' -f 1,2 "$TANTALUM/devices" | sort; }

while read -r id uuid name _; do
    if found | grep -q "^$id $uuid$"; then
        ok "ffa::finds_$name"
    else
        failed "ffa::finds_$name" "no $id $uuid among:" "$(found)"
    fi
done <"$TANTALUM/devices"

if [ "$(found)" = "$(expected)" ]; then
    ok ffa::finds_no_other
else
    failed ffa::finds_no_other "found:" "$(found)"
fi
