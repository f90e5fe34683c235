# Read by the login shell.
export PATH="$HOME/bin:$PATH"
umask 022
