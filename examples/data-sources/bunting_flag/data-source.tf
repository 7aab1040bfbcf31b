# The definition, as whoever manages the flag wrote it.
data "bunting_flag" "new_cart" {
  key = "checkout/new-cart"
}

output "owner_of_new_cart" {
  value = data.bunting_flag.new_cart.owner
}
