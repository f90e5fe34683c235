# Where this machine takes Debian from, for mmdebstrap: sourced by what unpacks a root.
# shellcheck shell=bash

# Lines of a sources.list, as apt of this machine has them.
sources_of_this_machine() { # SUITE
    local suite=$1
    apt-get indextargets --format "deb \$(SITE) \$(RELEASE) \$(COMPONENT)" 'Created-By: Packages' 'Origin: Debian' |
        grep -E " ($suite|$suite-updates|$suite-security) " | sort -u || true
}

# How this machine reaches them: dated mirrors and proxies need these.
apt_options_of_this_machine() {
    apt-config dump | grep -E '^Acquire::(Check-Valid-Until|Check-Date|https?::Proxy) ' || true
}

# Options of mmdebstrap, one a line: as few packages as possible, from where this machine takes them.
archive_options() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg line
    [ ! -e "$keyring" ] || echo "--keyring=$keyring"
    printf '%s\n' "--aptopt=Acquire::Languages \"none\"" "--aptopt=APT::Install-Recommends \"false\""
    while read -r line; do [ -z "$line" ] || echo "--aptopt=${line%;}"; done < <(apt_options_of_this_machine)
}
