"""One actor call: how it is sent, waited for and repeated, and how actors come to be."""
