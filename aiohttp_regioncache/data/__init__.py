"""Where countries and cloud regions lie: countries.csv and regions.csv, derived from GeoNames (CC BY 4.0)."""
