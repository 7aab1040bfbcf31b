resource "bunting_flag" "new_cart" {
  key           = "checkout/new-cart"
  default_value = false
  value         = true
}

# While it is engaged, everybody gets the flag's default value. It stands for this configuration's own hold only: what an
# operator has killed from the command line stays killed until they release it.
resource "bunting_kill_switch" "new_cart" {
  flag_key = bunting_flag.new_cart.key
  reason   = "Totals are rounded wrongly, see INC-1234"
  engaged  = true

  # Several configurations may hold the same flag, each under a name of its own.
  holder = "terraform/checkout"

  # Destroying an engaged kill switch would switch the feature on again, so it is refused unless this says that it is meant.
  release_on_destroy = true
}
