"""fMRI time series: trimming, detrending, standardizing, reproducibility, voxel selection."""
