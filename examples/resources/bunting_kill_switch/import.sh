# The id is the flag's key, a colon, and the holder.
terraform import bunting_kill_switch.new_cart checkout/new-cart:terraform/checkout
