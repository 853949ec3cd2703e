"""fMRI time series: trimming, detrending, standardising, reproducibility, selection."""
