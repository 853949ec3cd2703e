"""Running a profile at its true size without memory: shapes on torch's meta device."""
