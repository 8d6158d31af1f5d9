"""What leaves a process as telemetry, read back by something that is not ours."""
