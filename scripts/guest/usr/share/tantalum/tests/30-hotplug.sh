# shellcheck shell=dash
# Each core but the first goes off and on again, and OP-TEE still answers from it.
. /usr/share/tantalum/lib.sh

turn() { echo "$2" >"/sys/devices/system/cpu/cpu$1/online"; }

off_and_on() {
    turn "$1" 0 && [ "$(cat "/sys/devices/system/cpu/cpu$1/online")" = 0 ] &&
        turn "$1" 1 && [ "$(cat "/sys/devices/system/cpu/cpu$1/online")" = 1 ]
}

core=1
while [ -e "/sys/devices/system/cpu/cpu$core" ]; do
    check "hotplug::core_$core" off_and_on "$core"
    check "hotplug::op_tee_from_core_$core" taskset "$(printf '%x' $((1 << core)))" xtest regression_1001
    core=$((core + 1))
done
