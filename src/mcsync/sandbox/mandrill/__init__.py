"""The Transactional (Mandrill) API under /api/1.x on the same socket: another key, the same clock and faults (MC 17)."""
