"""The authors' networks under their own key names."""
