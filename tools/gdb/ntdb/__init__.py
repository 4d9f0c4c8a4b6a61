"""ntdb - gdb that speaks NT: commands after WinDbg's, for TINT's kernel."""
