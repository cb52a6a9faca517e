"""The 19 corruptions of CIFAR-10-C (Hendrycks and Dietterich 2019), one file per family."""
