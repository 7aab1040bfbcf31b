# The id is the flag's key.
terraform import bunting_flag.new_cart checkout/new-cart
