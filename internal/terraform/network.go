package terraform

import "strconv"

// network writes a new VPC as the CDK lays it out: a public and a private subnet
// in each Availability Zone, all of one size.
func (m *module) network() *file {
	f := newFile("network.tf")
	if m.c.Network.ID != "" {
		return f
	}
	zones, count := any(m.c.Network.AvailabilityZones), m.c.Network.Zones()
	if len(m.c.Network.AvailabilityZones) == 0 {
		m.variables.add("", "variable", []string{"availability_zones"}, func(b body) {
			b.set("description", "The two Availability Zones of the VPC. Default: the first two of the Region.")
			b.set("type", raw("list(string)"))
			b.set("default", raw("null"))
			b.block("validation", nil, func(b body) {
				b.set("condition", raw("var.availability_zones == null ? true : length(distinct(var.availability_zones)) == 2"))
				b.set("error_message", "Name two different Availability Zones.")
			})
		})
		f.data("aws_availability_zones", "available", func(b body) {
			b.set("count", raw("var.availability_zones == null ? 1 : 0"))
			b.set("state", "available")
			b.block("filter", nil, func(b body) { // no Local Zones
				b.set("name", "opt-in-status")
				b.set("values", []string{"opt-in-not-required"})
			})
		})
		zones = raw("var.availability_zones != null ? var.availability_zones : slice(data.aws_availability_zones.available[0].names, 0, 2)")
	}
	bits := 0
	for 1<<bits < 2*count {
		bits++
	}
	numbers, nats, routes := map[string]any{}, map[string]any{}, map[string]any{}
	for i := range count {
		key := strconv.Itoa(i + 1)
		numbers[key] = i
		routes[key] = strconv.Itoa(i%min(m.c.Network.NATGateways, count) + 1)
		if i < m.c.Network.NATGateways {
			nats[key] = i
		}
	}
	f.add("The numbers of the zones are the keys of what is made in them.", "locals", nil, func(b body) {
		b.set("availability_zones", zones)
		b.set("zones", numbers)
		b.set("nat_gateways", nats)
		b.set("nat_gateway_of", routes)
	})
	name := func(b body, what string) { b.set("tags", map[string]any{"Name": m.c.Name + what}) }
	f.resource("", "aws_vpc", "this", func(b body) {
		b.set("cidr_block", m.c.Network.CIDR)
		b.set("enable_dns_hostnames", true)
		b.set("enable_dns_support", true)
		name(b, "")
	})
	f.resource("No rules: nothing is reached through the default security group.", "aws_default_security_group", "this", func(b body) {
		b.set("vpc_id", raw("aws_vpc.this.id"))
	})
	subnet := func(kind, role string, first int) {
		f.resource("", "aws_subnet", kind, func(b body) {
			b.set("for_each", raw("local.zones"))
			b.set("vpc_id", raw("aws_vpc.this.id"))
			b.set("availability_zone", raw("local.availability_zones[each.value]"))
			b.set("cidr_block", call{"cidrsubnet", []any{raw("aws_vpc.this.cidr_block"), bits, raw(addition(first))}})
			b.set("map_public_ip_on_launch", kind == "public")
			b.set("tags", map[string]any{"Name": m.c.Name + "-" + kind + "-" + ref("each.key"), "kubernetes.io/role/" + role: "1"})
		})
	}
	subnet("public", "elb", 0)
	subnet("private", "internal-elb", count)
	f.resource("", "aws_internet_gateway", "this", func(b body) {
		b.set("vpc_id", raw("aws_vpc.this.id"))
		name(b, "")
	})
	f.resource("", "aws_eip", "nat", func(b body) {
		b.set("for_each", raw("local.nat_gateways"))
		b.set("domain", "vpc")
		name(b, "-nat-"+ref("each.key"))
		b.set("depends_on", raw("[aws_internet_gateway.this]"))
	})
	f.resource("", "aws_nat_gateway", "this", func(b body) {
		b.set("for_each", raw("local.nat_gateways"))
		b.set("allocation_id", raw("aws_eip.nat[each.key].id"))
		b.set("subnet_id", raw("aws_subnet.public[each.key].id"))
		name(b, "-"+ref("each.key"))
		b.set("depends_on", raw("[aws_route.public]"))
	})
	table := func(kind string, each bool) {
		index := ""
		if each {
			index = "[each.key]"
		}
		f.resource("", "aws_route_table", kind, func(b body) {
			suffix := "-" + kind
			if each {
				b.set("for_each", raw("local.zones"))
				suffix += "-" + ref("each.key")
			}
			b.set("vpc_id", raw("aws_vpc.this.id"))
			name(b, suffix)
		})
		f.resource("", "aws_route", kind, func(b body) {
			if each {
				b.set("for_each", raw("local.zones"))
			}
			b.set("route_table_id", raw("aws_route_table."+kind+index+".id"))
			b.set("destination_cidr_block", "0.0.0.0/0")
			if each {
				b.set("nat_gateway_id", raw("aws_nat_gateway.this[local.nat_gateway_of[each.key]].id"))
			} else {
				b.set("gateway_id", raw("aws_internet_gateway.this.id"))
			}
		})
		f.resource("", "aws_route_table_association", kind, func(b body) {
			b.set("for_each", raw("local.zones"))
			b.set("subnet_id", raw("aws_subnet."+kind+"[each.key].id"))
			b.set("route_table_id", raw("aws_route_table."+kind+index+".id"))
		})
	}
	table("public", false)
	table("private", true)
	return f
}

func addition(n int) string {
	if n == 0 {
		return "each.value"
	}
	return "each.value + " + strconv.Itoa(n)
}
