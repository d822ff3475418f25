# shellcheck shell=dash
# Linux as a client of partitions of ours, without OP-TEE: programs send messages through a kernel module.
. /usr/share/tantalum/lib.sh

[ -s "$TANTALUM/devices" ] || exit 0 # there are no partitions
if [ ! -e /modules/extra/ffa_message.ko ]; then
    skipped ffa_send "the kernel module is not there"
    exit 0
fi
check ffa_send::module_goes_in insmod /modules/extra/ffa_message.ko

# What each may do, as the manifests say: the fourth column.
while read -r id _ name properties; do
    check "ffa_send::properties_of_$name" \
        [ "$(dmesg | sed -n "s/.*partition $id has properties 0x//p" | tail -n 1)" = "$properties" ]
done <"$TANTALUM/devices"

id_of() { awk -v name="$1" '$3 == name { print $1 }' "$TANTALUM/devices"; }

# answers NAME WANTED WHAT...: whether the answer to a message begins with these words.
answers() {
    local name=$1 wanted=$2 got
    shift 2
    got=$("$@" 2>&1)
    case "$got " in
    "$wanted "*) ok "ffa_send::$name" ;;
    *) failed "ffa_send::$name" "$*" "wanted: $wanted" "got: $got" ;;
    esac
}

echo=$(id_of echo) vault=$(id_of vault)
answers echo_returns_fourteen_words '0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8 0x9 0xa 0xb 0xc 0xd 0xffffffffffffffff' \
    ffa-send "$echo" 1 2 3 4 5 6 7 8 9 10 11 12 13 0xffffffffffffffff
answers echo_returns_five_words '0x1 0x2 0x3 0x4 0xffffffffffffffff' ffa-send -1 "$echo" 1 2 3 4 0xffffffffffffffff

[ -n "$vault" ] || exit 0
before=$(ffa-send "$vault" 1 | cut -d ' ' -f 1,2)
answers vault_tells_its_counter "$before 0" ffa-send -1 "$vault" 1
answers vault_stamps_nothing_for_linux 0x2 ffa-send "$vault" 2 1 2 3 4
answers vault_refuses_what_it_does_not_know 0x1 ffa-send "$vault" 99
answers vault_counts_nothing_that_it_refuses "$before" ffa-send "$vault" 1

# A stamp that a trusted application had made is good here too.
echo "to whom it may concern" >/tmp/document
if stamp=$(notary /tmp/document 2>&1); then
    # shellcheck disable=SC2086  # words are meant
    answers vault_verifies_the_stamp_of_a_trusted_application 0 ffa-send "$vault" 3 $stamp
    # shellcheck disable=SC2086
    answers vault_finds_a_forged_counter 0x5 ffa-send "$vault" 3 99 ${stamp#* }
    check ffa_send::digest_is_the_documents \
        [ "$(sha256sum /tmp/document | cut -c 1-16)" = "$(echo "$stamp" | awk '{ print $2 }' |
            sed 's/^0x//; s/\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)/\8\7\6\5\4\3\2\1/')" ]
else
    skipped ffa_send::vault_verifies_the_stamp_of_a_trusted_application "$stamp"
fi

check ffa_send::module_goes_out rmmod ffa_message
