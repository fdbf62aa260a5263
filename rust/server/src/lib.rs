//! Sockets, framing, the produce and fetch fast path; all else goes to a ControlPlane.
