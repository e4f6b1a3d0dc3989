// Delay lines at an edge of an array: item i of a packed vector comes out EXTRA + i cycles after it went in.
module skew #(
    parameter ITEMS = 4,
    parameter BITS = 8,
    parameter EXTRA = 0
) (
    input wire clk,
    input wire reset,
    input wire [ITEMS*BITS-1:0] in,
    output wire [ITEMS*BITS-1:0] out
);
    genvar i;
    generate
        for (i = 0; i < ITEMS; i = i + 1) begin : g_item
            delay #(.BITS(BITS), .CYCLES(EXTRA + i)) line (
                .clk(clk), .reset(reset), .in(in[i*BITS +: BITS]), .out(out[i*BITS +: BITS])
            );
        end
    endgenerate
endmodule
