// Brings an exact sum into a register: wraps modulo 2**BITS, or saturates. Needs IN_BITS > BITS.
module obey #(
    parameter IN_BITS = 17,
    parameter BITS = 16,
    parameter SATURATE = 0
) (
    input wire signed [IN_BITS-1:0] exact,
    output wire signed [BITS-1:0] held,
    output wire overflow
);
    wire [IN_BITS-BITS:0] signs = exact[IN_BITS-1:BITS-1];
    assign overflow = (|signs) && !(&signs);
    generate
        if (SATURATE != 0) begin : g_saturate
            wire negative = exact[IN_BITS-1];
            assign held = overflow ? {negative, {(BITS-1){!negative}}} : exact[BITS-1:0];
        end else begin : g_wrap
            assign held = exact[BITS-1:0];
        end
    endgenerate
endmodule
