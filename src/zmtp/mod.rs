//! ZMTP 3.0 and 3.1: the ZeroMQ transport as far as ZRE and the repeater need it.
