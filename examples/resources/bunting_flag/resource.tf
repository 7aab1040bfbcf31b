# A switch: everybody gets true, and false as soon as the flag is killed.
resource "bunting_flag" "new_cart" {
  key           = "checkout/new-cart"
  default_value = false
  value         = true

  description = "The rewritten cart"
  owner       = "team-checkout"
  tags        = ["checkout"]
}

# Declared, but not switched on yet: the default value is served.
resource "bunting_flag" "free_shipping" {
  key           = "checkout/free-shipping"
  default_value = false
  value         = true
  enabled       = false
}

# One of a few texts, which each tenant may have its own of.
resource "bunting_flag" "theme" {
  key            = "shop/theme"
  default_value  = "classic"
  allowed_values = ["classic", "blue", "dark"]
  layer          = "tenant"
}

# A number. The type follows from the values; 2 alone would be an int.
resource "bunting_flag" "fee" {
  key           = "checkout/fee-percent"
  type          = "double"
  default_value = 2
}

# A whole structure.
resource "bunting_flag" "limits" {
  key = "checkout/limits"
  default_value = {
    max_items = 50
    countries = ["DE", "FR"]
  }

  # Removing this block is refused until the protection was lifted by an apply of its own.
  deletion_protection = true
}
