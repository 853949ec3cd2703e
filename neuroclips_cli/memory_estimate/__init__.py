"""How much memory each stage needs at true size, counted on torch's meta device."""
