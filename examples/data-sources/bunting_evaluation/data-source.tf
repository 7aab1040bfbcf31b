# What the server answers now. The flag may be managed anywhere.
data "bunting_evaluation" "new_cart" {
  flag_key = "checkout/new-cart"
}

# What one tenant gets. The default is served only when there is no such flag.
data "bunting_evaluation" "theme_of_acme" {
  flag_key  = "shop/theme"
  entity_id = "acme"
  default   = "classic"
}

output "new_cart" {
  value = data.bunting_evaluation.new_cart.value
}

output "theme_of_acme" {
  value = "${data.bunting_evaluation.theme_of_acme.value} (${data.bunting_evaluation.theme_of_acme.source})"
}
