"""The nightly reconcile: compares the marketplaces' numbers with the ERP's and reports the differences."""
