"""What people write pipelines with: the vocabulary of the Azure Machine Learning SDK (v1), for local runs.

Building is pure; only submitting starts anything. While a definition file is loaded, nothing has an effect (`loading`).
"""
