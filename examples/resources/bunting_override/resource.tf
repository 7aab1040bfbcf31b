resource "bunting_flag" "theme" {
  key           = "shop/theme"
  default_value = "classic"
  value         = "blue"
  layer         = "tenant"
}

# This tenant gets a value of its own.
resource "bunting_override" "acme" {
  flag_key  = bunting_flag.theme.key
  entity_id = "acme"
  value     = "dark"
}

# Without a value the tenant gets the flag's default value, whatever everybody else gets.
resource "bunting_override" "initech" {
  flag_key  = bunting_flag.theme.key
  entity_id = "initech"
}
