"""vlsmctl: small adapters for frozen vision-language segmentation models, on medical images."""
